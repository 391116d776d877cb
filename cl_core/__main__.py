"""`python -m cl_core` is the command `plastiscope`."""

import sys

from cl_core.cli import main

sys.exit(main())
