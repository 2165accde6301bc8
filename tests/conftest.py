"""How the whole suite explores: the same way on every run, or far and wide (`make test-all`)."""

import os

from hypothesis import settings

# Tests are never timed, so no example has a deadline.
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("long", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
