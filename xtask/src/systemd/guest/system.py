"""The system that the checks look at: programs, systemd, the daemon's endpoint."""

import json
import os
import shutil
import subprocess
import time
import urllib.request

SERVICE = "closewatch.service"
SOCKET = "closewatch.socket"
ENDPOINT = "http://127.0.0.1:16455"
RECORDS = "/var/log/closewatch/records.jsonl"
DROP_IN = "/run/systemd/system/closewatch.service.d/check.conf"


def run(*command, **how):
    """What it prints. An error if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **how)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def systemctl(*words):
    return run("systemctl", *words)


def show(name, unit=SERVICE):
    """A property of a unit."""
    return systemctl("show", "--property", name, "--value", unit).strip()


def main_pid():
    return int(show("MainPID"))


def until(what, holds, seconds=30):
    """Waits for it; returns what it gave."""
    end = time.monotonic() + seconds
    while not (given := holds()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return given


def is_active():
    return show("ActiveState") == "active"


def fetch(path, seconds=30):
    with urllib.request.urlopen(ENDPOINT + path, timeout=seconds) as response:
        assert response.status == 200, response.status
        return response.read().decode()


def metric(name, *labels):
    """The sum of the samples of a metric whose labels contain all of these."""
    total = 0.0
    for line in fetch("/metrics").splitlines():
        sample, _, value = line.rpartition(" ")
        found, _, its = sample.partition("{")
        if found == name and all(label in its for label in labels):
            total += float(value)
    return total


def records(path=RECORDS):
    with open(path) as lines:
        return [json.loads(line) for line in lines]


def reconfigure(text):
    """Runs the service with this in addition from its next start on; with nothing, as it is installed."""
    folder = os.path.dirname(DROP_IN)
    if text:
        os.makedirs(folder, exist_ok=True)
        with open(DROP_IN, "w") as drop_in:
            drop_in.write(text)
    else:
        shutil.rmtree(folder)
    systemctl("daemon-reload")
