import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.functions;

/** Apache Spark over the table, which it finds in the SQL catalog that PyIceberg made, as a JDBC one. */
public final class SparkTable {
  /**
   * Arguments: the catalog's JDBC URI, the warehouse. Of each line of standard input, a name, a tab and a query, it prints
   * the rows as JSON behind the name and a tab; in the end all rows of the table, behind an empty name.
   */
  public static void main(String[] arguments) throws Exception {
    String catalog = "spark.sql.catalog.lakehouse";
    SparkSession spark =
        SparkSession.builder()
            .master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.jsonGenerator.ignoreNullFields", "false")
            .config(catalog, "org.apache.iceberg.spark.SparkCatalog")
            .config(catalog + ".type", "jdbc")
            .config(catalog + ".uri", arguments[0])
            .config(catalog + ".warehouse", arguments[1])
            .getOrCreate();
    spark.table("lakehouse.lakehouse.sessions").createOrReplaceTempView("sessions");
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] parts = line.split("\t", 2);
      for (String row : spark.sql(parts[1]).toJSON().collectAsList()) {
        out.println(parts[0] + "\t" + row);
      }
    }
    for (String row :
        spark.table("sessions").withColumn("timestamp", functions.expr("unix_micros(timestamp)")).toJSON().collectAsList()) {
      out.println("\t" + row);
    }
    spark.stop();
  }
}
