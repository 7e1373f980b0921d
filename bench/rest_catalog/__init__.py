"""The REST catalog of Apache Iceberg's own tests, in Java, for bench/lake.py, and a gateway before it that loses
answers and asks again by itself. It needs Java 17 and Maven."""
