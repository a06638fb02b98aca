"""The rows of a batch on a GPU: the loop of the native engine as one kernel, a thread for a row."""
