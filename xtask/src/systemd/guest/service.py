"""The service under its sandbox: whose it is, what it may, what it gave up."""

import os
import pwd
import re
import subprocess

from system import SERVICE, fetch, main_pid, run, show

# Kernel: include/uapi/linux/capability.h.
CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 1 << 2, 1 << 12, 1 << 19, 1 << 21
CAP_PERFMON, CAP_BPF, CAP_CHECKPOINT_RESTORE = 1 << 38, 1 << 39, 1 << 40
# What the unit gives, and bounds.
UNIT = CAP_BPF | CAP_PERFMON | CAP_NET_ADMIN
SECCOMP_FILTER = 2
EXPOSURE_MAX = 1.5


def threads():
    """The fields of `status` of each of the daemon's threads, by their names."""
    tasks = f"/proc/{main_pid()}/task"
    found = []
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/status") as lines:
            found.append(dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line))
    return found


def check_runs_as_its_own_user():
    user = pwd.getpwnam("closewatch")
    for thread in threads():
        assert thread["Uid"].split() == [str(user.pw_uid)] * 4, thread
        assert thread["Gid"].split() == [str(user.pw_gid)] * 4, thread
    assert user.pw_uid < 1000 and user.pw_shell.endswith("nologin"), user


def check_gave_up_its_privileges():
    fetch("/metrics")
    found = threads()
    assert {"records", "time-wait"} < {thread["Name"] for thread in found}, found
    for thread in found:
        kept = {name: int(thread[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")}
        assert not any(kept.values()), thread
        assert int(thread["CapBnd"], 16) == UNIT, thread
        assert thread["NoNewPrivs"] == "1", thread
        assert int(thread["Seccomp"]) == SECCOMP_FILTER, thread
    log = run("journalctl", "--unit", SERVICE, "--output", "json", "CLOSEWATCH_KEPT=none")
    assert log.count("privileges dropped") == 1, log
    return f"{len(found)} threads keep no capability"


def check_sandbox_is_as_tight_as_promised():
    said = run("systemd-analyze", "security", "--no-pager", SERVICE)
    exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
    assert exposure <= EXPOSURE_MAX, said
    return f"exposure {exposure}"


def check_writes_nowhere_else():
    """What the daemon may write to, in the files that it sees: looked for as its user, with its mounts."""
    user = pwd.getpwnam("closewatch")
    inside = ["nsenter", "--target", str(main_pid()), "--mount"]
    inside += ["--setuid", str(user.pw_uid), "--setgid", str(user.pw_gid)]
    look = "find / -path /proc -prune -o -type d,f -writable -print"
    found = subprocess.run([*inside, *look.split()], capture_output=True, text=True).stdout.split()
    own = ("/var/log/closewatch", "/run/closewatch", "/tmp", "/var/tmp")
    others = [path for path in found if not path.startswith(own)]
    assert not others, others
    assert "/var/log/closewatch/records.jsonl" in found, found
    return f"writable: {' '.join(found)}"
