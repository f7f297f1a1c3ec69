"""`python -m momo_platform`."""

import sys

from momo_platform.stages.command_line import main

if __name__ == "__main__":
    sys.exit(main())
