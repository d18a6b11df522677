"""What several stages share and no stage owns: keys, tags of runs, tables, errors, levels. Pure."""
