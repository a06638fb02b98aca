# What a system image holds compiled: a solve and a gradient by a method of each family.
using PyNODE

for name in ("FBDF", "QNDF", "Rodas5P", "KenCarp4")
    PyNODE.example(name; reverse_with = "Rodas5P")
end
PyNODE.example("Tsit5"; reverse_with = "Tsit5")
