"""Files of archives, packed one way or another."""

import io
import pickle
import random
import zipfile

from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source


def contents(location: object) -> dict[str, bytes]:
    """The images by name, read twice: by the source that was scanned, and by one that came out of a pickle."""
    source = open_source(str(location))
    members = listing_of(source).members
    assert not [member.refused for member in members if member.refused]
    found = {member.name: source.read(member) for member in members}
    again = pickle.loads(pickle.dumps(source))
    shuffled = random.Random(0).sample(members, len(members))
    assert {member.name: again.read(member) for member in shuffled} == found
    return found


def zip_bytes(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return handle.getvalue()
