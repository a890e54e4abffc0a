FROM node:26-slim

WORKDIR /app
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000

# What the sample server needs are development dependencies of the plugin. Install scripts only fetch the Node and the
# PostgreSQL of machines without Docker; the optional packages are that PostgreSQL and the linter.
COPY package.json package-lock.json .npmrc ./
RUN npm ci --include=dev --omit=optional --ignore-scripts && npm cache clean --force

COPY app.ts server.ts validation.ts ./
COPY plugins plugins
COPY routes routes
COPY database database

USER node
EXPOSE 3000

# The first start fills an empty database before it listens.
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:3000/').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]

# No npm in between, which would not pass SIGTERM on.
CMD ["node", "server.ts"]
