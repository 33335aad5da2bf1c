"""What came out of the lab's runs, as tidy tables: kept as Parquet, drawn by the page."""
