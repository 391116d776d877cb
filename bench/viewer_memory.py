"""Memory of the server with one, ten and thirty viewers on one recording: what each of them adds.

    python -m bench.viewer_memory [--viewers 1,10,30] [--walks 2] [--run nsp2-split-digits]

A viewer is a connection that speaks the browser's part of Streamlit's protocol and draws nothing, so that thirty of
them fit beside the server. All of them open every page of the run, one page after the other, all at once, and stay
connected; with more viewers, those that are there walk again. The table shows the server's resident memory when
everybody has finished, and after one more walk: what grows with walks is a leak. The last row is after all have left
and Streamlit has had time to forget their sessions. Linux only; nothing is trained.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from bench.first_picture import OURS, free_port, server
from bench.meters import table

PAGES = ("", "run", "forgetting", "spectra", "attention", "gap", "pools", "whatif", "compare", "measurements", "export")
FORGOTTEN = 15.0  # seconds after the last viewer has left


def resident(pid: int) -> float:
    """Memory of a process that is not shared with a file, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1000
    raise SystemExit("the server has ended")


def listening(port: int) -> int:
    """Process that listens at a port: the server may be a child of what was started."""
    wanted = f":{port:04X}"
    inodes = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(wanted) and fields[3] == "0A"
    }
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                links = [str(link.readlink()) for link in (entry / "fd").iterdir()]
            except OSError:
                continue
            if any(f"socket:[{inode}]" in links for inode in inodes):
                return int(entry.name)
    raise SystemExit(f"nobody listens at port {port}")


class Viewer:
    """One connection to the dashboard."""

    def __init__(self, port: int, run: str) -> None:
        self.port, self.run = port, run

    async def enter(self) -> None:
        from websockets.asyncio.client import connect

        self.line = await connect(
            f"ws://127.0.0.1:{self.port}/_stcore/stream",
            subprotocols=["streamlit"],
            origin=f"http://127.0.0.1:{self.port}",
            max_size=None,
        )

    async def walk(self) -> None:
        """Open every page, each when the one before is finished."""
        for page in PAGES:
            await self.open(page)

    async def open(self, page: str) -> None:
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        asked = BackMsg()
        asked.rerun_script.query_string = f"run={self.run}"
        asked.rerun_script.page_name = page
        await self.line.send(asked.SerializeToString())
        while True:
            said = ForwardMsg()
            said.ParseFromString(await self.line.recv())
            if said.WhichOneof("type") == "script_finished":
                if said.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    continue
                if said.script_finished != ForwardMsg.FINISHED_SUCCESSFULLY:
                    raise SystemExit(f"page {page or 'start'} did not finish")
                return

    async def leave(self) -> None:
        await self.line.close()


async def measured(port: int, counts: list[int], walks: int, run: str) -> list[list[str]]:
    """Rows of the table."""
    pid, viewers, rows = listening(port), list[Viewer](), list[list[str]]()
    one = 0.0
    for count in counts:
        arriving = [Viewer(port, run) for _ in range(count - len(viewers))]
        await asyncio.gather(*(viewer.enter() for viewer in arriving))
        viewers += arriving
        found, began = [], time.perf_counter()
        for _ in range(walks):
            await asyncio.gather(*(viewer.walk() for viewer in viewers))
            found.append(resident(pid))
        seconds = (time.perf_counter() - began) / walks
        one = one or found[-1]
        each = (found[-1] - one) / (count - 1) if count > 1 else 0.0
        rows.append(
            [str(count), f"{found[0]:.0f}", f"{found[-1]:.0f}", f"{each:.1f}" if count > 1 else "", f"{seconds:.1f}"]
        )
    await asyncio.gather(*(viewer.leave() for viewer in viewers))
    await asyncio.sleep(FORGOTTEN)
    rows.append(["all have left", "", f"{resident(pid):.0f}", "", ""])
    return rows


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--viewers", default="1,10,30")
    cli.add_argument("--walks", type=int, default=2)
    cli.add_argument("--run", default="nsp2-split-digits")
    arguments = cli.parse_args()
    counts = sorted(int(part) for part in arguments.viewers.split(","))
    with tempfile.TemporaryDirectory() as temporary:
        port = free_port()
        command = [sys.executable, "-c", OURS.format(port=port)]
        with server(command, port, Path(temporary), "Plastiscope is at"):
            rows = asyncio.run(measured(port, counts, max(1, arguments.walks), arguments.run))
    header = ["viewers", "MB", f"MB after {max(1, arguments.walks)} walks", "MB each beyond the first", "s for a walk"]
    for line in table(header, rows):
        print(line)


if __name__ == "__main__":
    main()
