import sys

from genmodel.cli import main
from genmodel.models.families import FAMILIES
from toys import TOYS

FAMILIES.update(TOYS)
sys.exit(main())
