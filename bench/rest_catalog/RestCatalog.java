import java.io.File;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.Map;
import org.apache.iceberg.CatalogProperties;
import org.apache.iceberg.Files;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

/** The REST catalog of Apache Iceberg's own tests, over its JDBC catalog in SQLite, for a warehouse that is a folder. */
public final class RestCatalog {
  /** Serves on a port of loopback, which it prints, until its standard input ends. */
  public static void main(String[] arguments) throws Exception {
    Path folder = Path.of(arguments[0]);
    JdbcCatalog catalog = new JdbcCatalog(properties -> new LocalFileIO(), null, true);
    catalog.initialize(
        "lakehouse",
        Map.of(
            CatalogProperties.URI, "jdbc:sqlite:" + folder.resolve("rest.sqlite"),
            CatalogProperties.WAREHOUSE_LOCATION, folder.resolve("lake").toUri().toString().replaceAll("/$", "")));
    ServletContextHandler handler = new ServletContextHandler();
    handler.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
    Server server = new Server(new InetSocketAddress("127.0.0.1", 0));
    server.setHandler(handler);
    server.start();
    System.out.println(((ServerConnector) server.getConnectors()[0]).getLocalPort());
    while (System.in.read() >= 0) {}
    server.stop();
  }

  /** Files of this machine; Iceberg's own needs Hadoop. */
  private static final class LocalFileIO implements FileIO {
    @Override
    public InputFile newInputFile(String location) {
      return Files.localInput(file(location));
    }

    @Override
    public OutputFile newOutputFile(String location) {
      File file = file(location);
      file.getParentFile().mkdirs();
      return Files.localOutput(file);
    }

    @Override
    public void deleteFile(String location) {
      file(location).delete();
    }

    private static File file(String location) {
      return new File(location.replaceFirst("^file:(//)?(?=/)", ""));
    }
  }
}
