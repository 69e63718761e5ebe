"""The peak memory of a process of its own.

Not resource.getrusage: its peak of a new process begins at the size of the process that started it, so that a large one
hides what the new one takes.
"""

#: Python code for that process: ``peak()`` returns its peak resident size so far, in MB.
CODE = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
"""
