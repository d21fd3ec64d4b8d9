"""From crawl to clean documents."""
