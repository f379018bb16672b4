"""What evaluations leave on disk, and what is made of it: samples, scores, statistics, the leaderboard."""
