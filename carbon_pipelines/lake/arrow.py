"""Arrow's compute functions, for modules whose types are checked.

What belongs here: nothing but this name. PyArrow makes most of ``pyarrow.compute`` when it is
imported, so a type checker cannot see them.
"""

from typing import Any

import pyarrow.compute

compute: Any = pyarrow.compute
