"""``python -m rirn`` is the ``rirn`` command."""

import sys

from rirn.cli import main

sys.exit(main())
