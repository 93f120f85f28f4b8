"""A `casefile-collector local` of its own for a script: over a directory that goes away, with its first case file sealed."""

import contextlib
import pathlib
import re
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# A debug build on a busy machine seals its first case file in a few seconds.
PATIENCE = 120


@contextlib.contextmanager
def collector():
    """Yields where it answers over HTTP, the owner's token, and the directory that it was started in."""
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "-p", "casefile-collector", "--bin", "casefile-collector"],
        cwd=ROOT,
        check=True,
    )
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        heard = home / "heard"
        command = [ROOT / "target/debug/casefile-collector", "local", "--warm-up", "2s"]
        command += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        with heard.open("wb") as err:
            running = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=err)
        try:
            deadline = time.monotonic() + PATIENCE
            while "recording goes on" not in heard.read_text(errors="replace"):
                if running.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the collector did not come up:\n{heard.read_text(errors='replace')}")
                time.sleep(0.1)
            at = re.search(r"http://[0-9.]+:[0-9]+", heard.read_text(errors="replace")).group()
            token = (home / "casefile-data/keys/owner.token").read_text().strip()
            yield at, token, home
            if running.poll() is not None:
                raise SystemExit(f"the collector ended by itself:\n{heard.read_text(errors='replace')}")
        finally:
            running.terminate()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
