"""The track: recipes of all kinds against one clock, one world and one judge, a leaderboard that anyone can check."""
