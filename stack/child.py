"""Starts one supervised program in place of itself. Run by path with `python -I -S`: no imports but the cheapest.

child.py [--starts FILE] [--die SIGNAL] [--user userns|nobody] -- PROGRAM ARGUMENTS...

--starts appends our process id to FILE, so that everybody can see the newest one and count the starts.
--die asks the kernel (Linux, prctl PR_SET_PDEATHSIG) to signal the program when its parent dies, so that
nothing survives a supervisor that was killed with -9. --user is for programs that refuse to run as root.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def enter_user_namespace() -> None:
    """Become `nobody` in a user namespace of our own: files keep their owner, no user is made, nothing is chowned."""
    libc = ctypes.CDLL(None, use_errno=True)
    user_id, group_id = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are refused here")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {user_id} 1"),
        ("gid_map", f"{NOBODY} {group_id} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def become_nobody() -> None:
    """Give up root for the machine's own `nobody`."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def die_with_parent(number: int) -> None:
    """Have the kernel send us signal `number` when our parent dies."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit("the parent died while this program was starting")


def main(arguments: list[str]) -> None:
    """Apply the options in order, then become the program."""
    split = arguments.index("--")
    options = dict(zip(arguments[:split:2], arguments[1:split:2], strict=True))
    command = arguments[split + 1 :]
    if "--starts" in options:
        with open(options["--starts"], "a") as file:
            file.write(f"{os.getpid()}\n")
    if options.get("--user") == "userns":
        enter_user_namespace()
    elif options.get("--user") == "nobody":
        become_nobody()
    if "--die" in options:
        # After the change of user: that clears the setting.
        die_with_parent(getattr(signal, "SIG" + options["--die"]))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
