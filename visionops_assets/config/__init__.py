"""The project file, as validated models: the project, its recipe, its gate."""
