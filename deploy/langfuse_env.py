"""Prints the .env that turns the Langfuse profile of docker-compose.yml on, with secrets of its own.

    python3 deploy/langfuse_env.py > .env

Make it once and keep it: the stores keep the passwords they were first started with, and SALT and ENCRYPTION_KEY must
never change.
"""

import secrets

print(f"""\
# Langfuse at http://localhost:3000, user operator@lakehouse.example with the password below.
COMPOSE_PROFILES=langfuse
LANGFUSE_HOST=http://langfuse-web:3000
LANGFUSE_PUBLIC_KEY=pk-lf-{secrets.token_hex(16)}
LANGFUSE_SECRET_KEY=sk-lf-{secrets.token_hex(16)}
LANGFUSE_USER_PASSWORD={secrets.token_urlsafe(18)}
LANGFUSE_NEXTAUTH_SECRET={secrets.token_hex(32)}
LANGFUSE_SALT={secrets.token_hex(16)}
LANGFUSE_ENCRYPTION_KEY={secrets.token_hex(32)}
LANGFUSE_POSTGRES_PASSWORD={secrets.token_hex(16)}
LANGFUSE_CLICKHOUSE_PASSWORD={secrets.token_hex(16)}
LANGFUSE_REDIS_PASSWORD={secrets.token_hex(16)}
LANGFUSE_MINIO_PASSWORD={secrets.token_hex(16)}""")
