"""What Azure and the database said when they were read. Data only."""
