"""A training loop of one's own, recorded: two tasks of handwritten digits, a small network, plain PyTorch.

python docs/examples/own_loop.py runs/mine
plastiscope open runs
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cl_core.recorder import Recorder

images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16).float(), torch.tensor(labels)
names = ["digits 0 to 4", "digits 5 to 9"]  # odd or even is asked of both
train, test = [], []
for part in (labels < 5, labels >= 5):
    data = TensorDataset(images[part], labels[part] % 2)
    train.append(DataLoader(torch.utils.data.Subset(data, range(640)), 64, shuffle=True))
    test.append(DataLoader(torch.utils.data.Subset(data, range(640, len(data))), 64))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)

recorder = Recorder(sys.argv[1], model, tasks=names, scenario="domain-incremental", seed=0)
for task, batches in enumerate(train):
    for _ in range(3):
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            recorder.step(loss=loss)
        recorder.end_epoch()
    print(recorder.end_task(task, evaluate=test, observe=batches))
