"""Sources on the network: a polite crawl of seed URLs, and the files of Common Crawl."""
