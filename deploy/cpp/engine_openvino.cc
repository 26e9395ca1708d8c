#include <stdexcept>

#include <openvino/openvino.hpp>
#include <openvino/opsets/opset8.hpp>

#include "engine.h"

namespace {

// The linear layer that leads to an output: backwards over what is computed from the image.
std::shared_ptr<ov::Node> last_layer(const ov::Output<ov::Node>& output) {
  std::shared_ptr<ov::Node> node = output.get_node_shared_ptr();
  while (!ov::is_type<ov::op::v0::MatMul>(node) && !ov::is_type<ov::op::v1::Convolution>(node)) {
    std::shared_ptr<ov::Node> before;
    for (const ov::Output<ov::Node>& value : node->input_values())
      if (!before && !ov::is_type<ov::op::v0::Constant>(value.get_node_shared_ptr()))
        before = value.get_node_shared_ptr();
    if (!before) throw std::runtime_error("no linear layer leads to its output");
    node = before;
  }
  return node;
}

class OpenVino : public Engine {
 public:
  OpenVino(const char* file, int threads, bool features) {
    ov::AnyMap options{
        // Left alone it takes bf16 wherever the CPU has it, with other answers.
        ov::hint::inference_precision(ov::element::f32),
        ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
        // Every process would bind its threads to the same first cores.
        ov::hint::enable_cpu_pinning(false),
    };
    if (threads > 0) options.insert(ov::inference_num_threads(threads));
    ov::Core core;
    const std::shared_ptr<ov::Model> model = core.read_model(file);
    if (features) model->add_output(last_layer(model->output())->input_value(0));
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
    return output(0);
  }

  std::vector<float> features() override { return output(1); }

 private:
  std::vector<float> output(size_t number) {
    const ov::Tensor out = request_.get_output_tensor(number);
    return {out.data<float>(), out.data<float>() + out.get_size()};
  }

  ov::InferRequest request_;
};

}  // namespace

extern "C" Engine* create_engine(const char* file, int threads, bool features) {
  return new OpenVino(file, threads, features);
}
