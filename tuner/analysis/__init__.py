"""What stored trials say: leaderboard, importance, predictions, exports."""
