FROM node:26-slim

WORKDIR /app
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000

# What the sample server needs are development dependencies of the plugin, among tools of more than five times their size.
# Install scripts only fetch the Node and the PostgreSQL of machines without Docker.
COPY package.json package-lock.json .npmrc docker/sample-packages.ts ./
RUN node sample-packages.ts && npm ci --omit=dev --omit=optional --ignore-scripts && npm cache clean --force

COPY app.ts server.ts worker.ts validation.ts ./
COPY plugins plugins
COPY routes routes
COPY database database

USER node
EXPOSE 3000

# The first start fills an empty database before it listens, the other instances wait for it: half a minute, or many on a
# slow disk. As soon as one answers it is healthy, however long the period.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15m \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.PORT).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]

# No npm in between, which would not pass SIGTERM on. A worker is the same image with `node worker.ts`.
CMD ["node", "server.ts"]
