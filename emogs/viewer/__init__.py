"""Showing avatars: the pictures of the demonstration, and a page with sliders."""
