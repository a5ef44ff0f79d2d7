"""The registry: versions, the champion, decisions and their lineage. python -m flows.registry asks and changes it."""
