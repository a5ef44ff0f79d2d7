"""Judgement: features -> statistics -> figures -> report -> leaderboard -> gate. It shares only files with training."""
