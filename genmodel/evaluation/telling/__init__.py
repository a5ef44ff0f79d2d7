"""Reports for people: leaderboard, page, card, charts."""
