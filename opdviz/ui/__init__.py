"""The only border to Streamlit below the pages."""
