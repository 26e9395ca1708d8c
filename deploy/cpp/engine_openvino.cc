#include <openvino/openvino.hpp>

#include "engine.h"

namespace {

class OpenVino : public Engine {
 public:
  OpenVino(const char* file, int threads) {
    ov::AnyMap options{
        // Left alone it takes bf16 wherever the CPU has it, with other answers.
        ov::hint::inference_precision(ov::element::f32),
        ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
    };
    if (threads > 0) options.insert(ov::inference_num_threads(threads));
    ov::Core core;
    const std::shared_ptr<ov::Model> model = core.read_model(file);
    ov::PartialShape shape = model->input().get_partial_shape();
    shape[0] = 1;  // a batch size that is known makes the graph faster
    model->reshape(shape);
    request_ = core.compile_model(model, "CPU", options).create_infer_request();
  }

  std::vector<float> run(const std::vector<float>& image, int size) override {
    const auto side = static_cast<size_t>(size);
    // OpenVINO reads the tensor only; its constructor takes no const pointer.
    request_.set_input_tensor(
        ov::Tensor(ov::element::f32, {1, 3, side, side}, const_cast<float*>(image.data())));
    request_.infer();
    const ov::Tensor out = request_.get_output_tensor();
    return {out.data<float>(), out.data<float>() + out.get_size()};
  }

 private:
  ov::InferRequest request_;
};

}  // namespace

extern "C" Engine* create_engine(const char* file, int threads) {
  return new OpenVino(file, threads);
}
