"""Figures: pure functions of tidy tables. No reading, no Streamlit, no statistics."""
