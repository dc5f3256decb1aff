"""From settings to providers; imports emit, export and declare."""
