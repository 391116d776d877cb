"""A run as data frames, the lines of docs/notebook.md in one program.

python docs/examples/notebook.py nsp2-micro-split-digits report.html
"""

import sys

import cl_core
from dashboard.figures import figure
from dashboard.notebook import figures, report

run = cl_core.open_run(sys.argv[1])
print(run)
print(run.matrix().round(1))

spectra = run.events("SpectrumMeasured")
print(spectra.pivot_table(index="layer", columns="task", values="nullity"))
eigenvalues = spectra.explode("eigenvalues")[["task", "layer", "space", "eigenvalues"]]
print(len(eigenvalues), "eigenvalues")

print(", ".join(figures(run)))
drawn = figure(run, "spectrum-decay", layer=2, task="T2")
print(drawn.layout.meta["caption"])

print(run.latex(caption="Accuracy in percent."))
print(cl_core.compare_runs([run]).T)
print(report(run, sys.argv[2]))
