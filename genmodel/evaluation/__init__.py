"""Judgement: features -> statistics -> figures -> report -> leaderboard -> gate. It meets training in files alone."""
