"""What users look at and keep: figures, pictures, reports, exports."""
