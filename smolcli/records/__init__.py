"""Where records go, and how a run resumes."""
