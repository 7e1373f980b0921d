module lakehouse/parity

go 1.22
