"""One Prefect flow a product."""
