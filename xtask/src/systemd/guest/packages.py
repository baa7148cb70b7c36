"""The package: installed, installed again, removed, purged."""

import glob
import os

from system import SERVICE, SOCKET, fetch, is_active, metric, run, show, systemctl, until

SETTINGS = "/etc/default/closewatch"
ENVIRONMENT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def apt(*words):
    run("apt-get", "--yes", "--quiet", *words, env=ENVIRONMENT)


def package():
    (found,) = glob.glob(os.path.abspath("closewatch_*.deb"))
    return found


def check_installs_and_starts():
    apt("install", package())
    until("active", is_active)
    assert show("NRestarts") == "0", systemctl("status", SERVICE)
    for unit in (SERVICE, SOCKET):
        assert show("UnitFileState", unit) == "enabled", unit
    assert fetch("/readyz") == "alive\n"
    assert metric("closewatch_probe_attached") >= 4


def check_upgrade_keeps_settings_and_runs_on():
    with open(SETTINGS, "a") as settings:
        settings.write("CLOSEWATCH_SLOW_AFTER=2s\n")
    apt("install", "--reinstall", package())
    until("active", is_active)
    assert '"slow_after_seconds":2.0' in fetch("/api/v1/health")


def check_removal_stops_it():
    apt("remove", "closewatch")
    assert show("ActiveState") == "inactive" and show("ActiveState", SOCKET) == "inactive"
    assert not os.path.exists("/usr/bin/closewatch")
    assert os.path.exists(SETTINGS), "removing is not purging"
    left_in_the_kernel()


def left_in_the_kernel():
    loaded = run("bpftool", "prog", "list")
    assert "observe_" not in loaded, loaded
    linked = run("bpftool", "link", "list")
    assert "cgroup_inet" not in linked, linked


def check_purge_leaves_nothing():
    apt("purge", "closewatch")
    left_in_the_kernel()
    roots = ["/etc", "/usr", "/var", "/run", "/sys/fs/bpf"]
    named = ["-iname", "*closewatch*", "-not", "-path", package()]
    found = run("find", *roots, "-xdev", *named).split()
    assert not found, found
    # The user stays: what it wrote elsewhere must not become another's.
    with open("/etc/passwd") as users:
        assert "closewatch:" in users.read()
