"""DVC: a batch taken out of a repository, and a dataset version written as one."""
