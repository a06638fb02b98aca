"""The native engine: whole solves in compiled code, on the functions of pynode/translate."""
