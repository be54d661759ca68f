"""Where image-mask records come from: one file per published layout."""
