"""Which model do people prefer, when they cannot know which is which? `daybreak compare-blind`."""
