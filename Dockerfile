# A viewer of one pack: no torch, no checkpoints, nothing to write but its own cache.
#   docker build --build-arg PACK=runs.opdviz -t opdviz-viewer . && docker run -p 8501:8501 opdviz-viewer
FROM python:3.11-slim
RUN useradd --create-home --uid 1000 viewer
WORKDIR /home/viewer/opdviz
COPY requirements-viewer.txt .
RUN pip install --no-cache-dir -r requirements-viewer.txt
COPY app.py ./
COPY .streamlit .streamlit
COPY pages pages
COPY opdviz opdviz
COPY docs docs
ARG PACK=pack.opdviz
COPY ${PACK} pack.opdviz
RUN mkdir cache && chown viewer cache
USER viewer
ENV PORT=8501 HOSTS=
EXPOSE 8501
HEALTHCHECK CMD python -c "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/_stcore/health').read()"
# Inside a container its own address is nobody's: the port that was published is the border.
CMD exec python -m opdviz app --pack pack.opdviz -- --server.address 0.0.0.0 --server.port "$PORT" \
    $(printf -- "--server.allowedHosts %s " localhost 127.0.0.1 $HOSTS)
