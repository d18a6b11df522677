"""DVC: a batch taken out of a repository, and a dataset version written as one."""

__all__ = ["exported_folder", "source", "source_address"]
