"""The engines with a Python interface, as compare.py sees them: answers requests, one a line, on standard input.

    load ENGINE NET THREADS FOLDER    ok, once the net has run
    run K                             the milliseconds of K inferences, after one that is not counted
    for SECONDS                       how many inferences were done, and the seconds they took
    output                            the last output

Where an engine cannot do what is asked, the answer is `refuses: ` and the reason. The crate `serve` is the same in Rust.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

import graph


class Engine:
    """A net ready to run on the input it was loaded with. `run` leaves the output in `last`, or else `output` fetches it."""

    def __init__(self, net: str, threads: int, folder: Path):
        self.net, self.threads, self.folder = net, threads, folder
        shape = graph.load(folder, net).layers[0].shape
        self.nhwc = np.fromfile(folder / f"{net}.input", "<f4").reshape(shape)
        self.nchw = np.ascontiguousarray(self.nhwc.transpose(0, 3, 1, 2))
        self.last = None

    def file(self, extension: str) -> str:
        path = self.folder / f"{self.net}.{extension}"
        if not path.exists():
            raise FileNotFoundError(f"{path.name} is missing: its converter failed")
        return str(path)

    def run(self):
        raise NotImplementedError

    def output(self) -> np.ndarray:
        return np.asarray(self.last)

    def run_for(self, seconds: float) -> tuple[int, float]:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            self.run()
            count += 1
        return count, time.perf_counter() - start


class OnnxRuntime(Engine):
    """ONNX Runtime, CPU provider."""

    def __init__(self, *args):
        super().__init__(*args)
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        self.session = ort.InferenceSession(self.file("onnx"), options, providers=["CPUExecutionProvider"])
        self.feed = {self.session.get_inputs()[0].name: self.nchw}

    def run(self):
        self.last = self.session.run(None, self.feed)[0]


class OpenVino(Engine):
    """OpenVINO, CPU plugin, f32, tuned for latency."""

    hint = "LATENCY"

    def __init__(self, *args):
        super().__init__(*args)
        import openvino as ov

        settings = {
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": self.hint,
            "INFERENCE_PRECISION_HINT": "f32",  # or it would take bf16 where the CPU has it
        }
        self.model = ov.Core().compile_model(self.file("onnx"), "CPU", settings)
        self.request, self.tensor = self.model.create_infer_request(), ov.Tensor(self.nchw)

    def run(self):
        self.request.infer({0: self.tensor}, share_inputs=True)

    def output(self):
        return self.request.get_output_tensor(0).data


class OpenVinoThroughput(OpenVino):
    """OpenVINO tuned for throughput: several inferences at a time, as many as it likes."""

    hint = "THROUGHPUT"

    def run_for(self, seconds):
        import openvino as ov

        queue = ov.AsyncInferQueue(self.model)
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            queue.start_async({0: self.tensor}, share_inputs=True)
            count += 1
        queue.wait_all()
        return count, time.perf_counter() - start


class LiteRt(Engine):
    """LiteRT's interpreter, which hands what it can to XNNPACK."""

    def __init__(self, *args):
        super().__init__(*args)
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(self.file("tflite"), num_threads=self.threads)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], self.nhwc)

    def run(self):
        self.interpreter.invoke()

    def output(self):
        return self.interpreter.get_tensor(self.interpreter.get_output_details()[0]["index"])


class Ncnn(Engine):
    """ncnn, f32."""

    def __init__(self, *args):
        super().__init__(*args)
        import ncnn

        self.graph = ncnn.Net()
        options = self.graph.opt
        options.num_threads, options.use_vulkan_compute = self.threads, False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_storage = False
        if self.graph.load_param(self.file("ncnn.param")) or self.graph.load_model(self.file("ncnn.bin")):
            raise RuntimeError("ncnn cannot read the model")
        self.mat = ncnn.Mat(self.nchw[0])

    def run(self):
        extractor = self.graph.create_extractor()
        extractor.input("in0", self.mat)
        code, self.last = extractor.extract("out0")
        if code:
            raise RuntimeError(f"extract gives {code}")


class Mnn(Engine):
    """MNN, f32, through its module interface."""

    def __init__(self, *args):
        super().__init__(*args)
        from MNN import expr, nn

        runtime = nn.create_runtime_manager(({"backend": "CPU", "numThread": self.threads, "precision": "high"},))
        self.module = nn.load_module_from_file(self.file("mnn"), ["input"], ["output"], runtime_manager=runtime)
        self.variable = expr.const(self.nchw, list(self.nchw.shape), expr.NCHW)

    def run(self):
        self.last = self.module.forward([self.variable])[0].read()


ENGINES = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "openvino-throughput": OpenVinoThroughput,
    "litert": LiteRt,
    "ncnn": Ncnn,
    "mnn": Mnn,
}


def answer(words: list[str], engine: Engine | None) -> tuple[str, Engine | None]:
    """The answer to one request, and the engine from then on."""
    match words:
        case ["load", name, net, threads, folder]:
            engine = ENGINES[name](net, int(threads), Path(folder))
            engine.run()
            return "ok", engine
        case ["run", count]:
            engine.run()
            times = []
            for _ in range(int(count)):
                start = time.perf_counter()
                engine.run()
                times.append(1e3 * (time.perf_counter() - start))
            return " ".join(map(repr, times)), engine
        case ["for", seconds]:
            count, took = engine.run_for(float(seconds))
            return f"{count} {took}", engine
        case ["output"]:
            return " ".join(map(str, engine.output().ravel().astype(float))), engine
    raise ValueError(f"no such request: {' '.join(words)}")


def main() -> None:
    if len(sys.argv) > 1:
        raise SystemExit(__doc__)
    # Engines write to standard output as they like; answers must not be among it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = None
    for line in sys.stdin:
        words = line.split()
        if words[:1] == ["load"]:
            engine = None  # two nets at once would share the caches
        try:
            text, engine = answer(words, engine)
        except Exception as error:  # whatever an engine throws is its reason
            text = "refuses: " + " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(text, file=answers, flush=True)


if __name__ == "__main__":
    main()
