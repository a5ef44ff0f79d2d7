"""How often processes are killed: GENMODEL_KILLS=4 makes it four times as often as in CI."""

import os

KILLS = int(os.environ.get("GENMODEL_KILLS", "1"))
