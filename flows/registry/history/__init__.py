"""What the decisions were: kept with the versions, by day as a page, and what changed between two."""
