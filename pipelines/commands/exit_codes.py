"""How every command ends: 0 done, 1 a stage failed, 2 bad input, 130 interrupted."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from momo_platform.stages import StageFailed, UserError


def exit_code(work: Callable[[], int], after_interrupt: str) -> int:
    """What `work` returns, or the code of the error that it ended with, told in a line."""
    try:
        return work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StageFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ninterrupted; {after_interrupt}", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(
                f"error: disk full ({error.filename}): make room or use --storage elsewhere",
                file=sys.stderr,
            )
            return 2
        raise
